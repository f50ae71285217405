"""The trainer: fine-tunes one student on a mix, through TRL.

    from trainer.run import train
    from trainer.base import count_tokens, open_tokenizer

`python -c "import trainer"` loads no torch; the heavy parts are imported by the functions.
"""

"""Three tokenizers that cut the same texts differently: bytes, merged bytes, and SentencePiece's pieces."""

from typing import Any

from tests.trainer.support import CHATML, SPECIAL, character_tokenizer

TEXTS = (
    "the weather there was better than the other weather",
    "naïve café déjà vu — “quoted” für Grüße",
    "数学は楽しい。日本語の文字はたくさんあります。",
    "🙂🙃 emoji and 12345 digits, then   blanks\nand\tlines",
    "def area(width, height):\n    return width * height",
    "thermal themes thereby therein thus; the bathe, loathe",
)


def byte_tokenizer() -> Any:
    return character_tokenizer()


def merged_tokenizer(size: int = 400, texts: tuple[str, ...] = TEXTS) -> Any:
    """Byte-level BPE, trained on `texts`."""
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers

    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=size,
        special_tokens=SPECIAL,
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    tokenizer.train_from_iterator(list(texts) * 3, trainer)
    return _wrapped(tokenizer)


def piece_tokenizer(size: int = 420) -> Any:
    """A SentencePiece-like BPE: blanks as U+2581, unknown characters as bytes, a blank before the text."""
    from tokenizers import Tokenizer, decoders, models, normalizers, trainers

    trained = Tokenizer(models.BPE(byte_fallback=True, unk_token="<unk>", fuse_unk=True))
    trained.normalizer = normalizers.Sequence(
        [normalizers.Prepend("\u2581"), normalizers.Replace(" ", "\u2581")]
    )
    bytes_ = [f"<0x{byte:02X}>" for byte in range(256)]
    trainer = trainers.BpeTrainer(
        vocab_size=size, special_tokens=["<unk>", *bytes_], show_progress=False, limit_alphabet=60
    )
    trained.train_from_iterator(list(TEXTS) * 3, trainer)
    trained.decoder = decoders.Sequence(
        [
            decoders.Replace("\u2581", " "),
            decoders.ByteFallback(),
            decoders.Fuse(),
            decoders.Strip(" ", 1, 0),
        ]
    )
    # Trained as special ones to have their places; SentencePiece's bytes are ordinary tokens.
    import json

    description = json.loads(trained.to_str())
    description["added_tokens"] = description["added_tokens"][:1]
    tokenizer = Tokenizer.from_str(json.dumps(description))
    return _wrapped(tokenizer)


def normalising_tokenizer() -> Any:
    """A SentencePiece-like Unigram whose control tokens are pieces, and whose NFKC makes such strings."""
    from tokenizers import Tokenizer, decoders, models, normalizers, pre_tokenizers

    control = ["<unk>", "</s>", *SPECIAL]
    letters = "\u2581abcdefghijklmnopqrstuvwxyz<>/|_\n"
    bytes_ = [f"<0x{byte:02X}>" for byte in range(256)]
    pieces = [(piece, 0.0) for piece in (*control, *bytes_)] + [
        (letter, -5.0) for letter in letters
    ]
    tokenizer = Tokenizer(models.Unigram(pieces, unk_id=0, byte_fallback=True))
    tokenizer.normalizer = normalizers.NFKC()
    tokenizer.pre_tokenizer = pre_tokenizers.Metaspace(prepend_scheme="first")
    tokenizer.decoder = decoders.Sequence(
        [decoders.Replace("\u2581", " "), decoders.ByteFallback(), decoders.Fuse()]
    )
    wrapped = _wrapped(tokenizer)
    wrapped.add_special_tokens({"bos_token": "</s>"})
    return wrapped


def _wrapped(tokenizer: Any) -> Any:
    from transformers import PreTrainedTokenizerFast

    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        pad_token="<pad>",
        eos_token="<|im_end|>",
        additional_special_tokens=["<|im_start|>"],
        chat_template=CHATML,
    )

"""The signals a student learns from. `hard` is the teacher's text. No TRL here."""

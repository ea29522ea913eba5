"""The base of every error that a user can mend."""


class FrameworkError(ValueError):
    """Something outside the code is wrong: a flag, a recipe, a shard, a checkpoint, a server.

    The message says what was wrong, where (file, shard, key, field) and what to do. `launch` and the `framework`
    command print it without a traceback; a library caller sees an ordinary `ValueError`.
    """


class RecipeError(FrameworkError):
    """A recipe cannot work; the message names the field."""

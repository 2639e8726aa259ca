"""Modules of the user's own, which add flows and targets to the tables."""

from collections.abc import Sequence


def import_named(words: Sequence[str]) -> list[str]:
    """Import the modules that words like extensions=[my_flow,my_target] name; the other words.

    Raises ConfigError as `import_extensions` does.
    """
    named = [word for word in words if word.startswith("extensions=")]
    if named:
        from flowlab.parts import import_extensions

        for word in named:
            import_extensions(word.removeprefix("extensions=").strip("[]").split(","))
    return [word for word in words if word not in named]

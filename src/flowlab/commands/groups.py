"""Where configurations are, what there is to choose from, and what the choices come to."""

from collections.abc import Sequence
from pathlib import Path

import hydra
from hydra import initialize_config_dir
from omegaconf import DictConfig, open_dict


def groups(folders: Sequence[Path]) -> list[str]:
    """The groups of the configurations in folders: the project's own, maybe one of the user's."""
    return sorted({path.name for folder in folders for path in folder.glob("*/")})


def choices(folders: Sequence[Path], group: str) -> list[str]:
    """What a group can be."""
    return sorted({p.stem for folder in folders for p in (folder / group).glob("*.yaml")})


def compose(
    folders: Sequence[Path], overrides: Sequence[str] = ()
) -> tuple[DictConfig, dict[str, str]]:
    """The configuration of such words, without Hydra's part, and what was chosen of each group."""
    own = ",".join("'file://" + str(p).replace("'", r"\'") + "'" for p in folders[1:])
    words = [*overrides, *([f"hydra.searchpath=[{own}]"] if own else [])]
    with initialize_config_dir(str(folders[0]), version_base="1.3"):
        config = hydra.compose("train", words, return_hydra_config=True)
    with open_dict(config):
        choices = config.pop("hydra").runtime.choices
    return config, {group: str(choice) for group, choice in choices.items()}

"""A configuration with users and rules for commands, and how they are run on it."""

from pathlib import Path
from typing import Any, Final

import bcrypt
import yaml
from click.testing import CliRunner, Result

from dockyard.cli.main import registry


PASSWORD: Final = "secret"
HASH: Final = bcrypt.hashpw(PASSWORD.encode(), bcrypt.gensalt(4)).decode()
RULES: Final = [
    {"repositories": ["secret/**"], "actions": ["*"], "who": ["user:alice"]},
    {"repositories": ["secret/**"], "actions": ["*"], "who": ["anonymous"], "effect": "deny"},
    {"repositories": ["**"], "actions": ["pull"], "who": ["anonymous"]},
    {"repositories": ["team/**"], "actions": ["push"], "who": ["group:developers", "robot:ci"]},
    {"repositories": ["**"], "actions": ["admin"], "who": ["user:alice"]},
]


class Accounts:
    """A configuration with the users alice and bob, and the robot ci."""

    def __init__(self, folder: Path) -> None:
        self.root = folder / "root"
        self.users = folder / "htpasswd"
        self.config = folder / "config.yml"
        self.root.mkdir()
        self.users.write_text(f"alice:{HASH}\nbob:{HASH}\n")
        self.configure()

    def configure(self, **sections: object) -> None:
        """Write the configuration; `sections` replace its own."""
        document: dict[str, Any] = {
            "version": 0.1,
            "storage": {"filesystem": {"rootdirectory": str(self.root)}},
            "auth": {"htpasswd": {"realm": "registry", "path": str(self.users)}},
            "access": {
                "groups": {"developers": ["bob"]},
                "robots": {"ci": {"hash": HASH}},
                "rules": RULES,
            },
            **sections,
        }
        kept = {name: section for name, section in document.items() if section is not None}
        self.config.write_text(yaml.safe_dump(kept))

    def run(self, *arguments: str, given: str | None = None) -> Result:
        """Run a command on the configuration; `given` is its standard input."""
        words = [*arguments, "--config", str(self.config)]
        return CliRunner().invoke(registry, words, prog_name="registry", input=given)

    def ask(self, *arguments: str) -> int:
        """Return the status that a command's process would end with."""
        words = [*arguments, "--config", str(self.config)]
        return int(CliRunner().invoke(registry, words, standalone_mode=False).return_value)

"""TypeScript in strict mode, and the programs around it, if Node.js is installed."""

import json
import os
import shutil
import subprocess
from pathlib import Path

from tests.support.server import BIN

MODULES = BIN.parent / "node/node_modules"
MISSING = (
    "needs Node.js 20 with npm, and then `make .venv/node`"
    if not (shutil.which("node") and MODULES.is_dir())
    else ""
)
OPTIONS = {
    "strict": True,
    "skipLibCheck": True,
    "noUncheckedIndexedAccess": True,
    "exactOptionalPropertyTypes": True,
    "target": "es2022",
    "module": "nodenext",
    "types": ["node"],
}


class TypeScript:
    """A folder with a program in it."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        (folder / "node_modules").symlink_to(MODULES)
        (folder / "package.json").write_text('{"type": "module"}')
        (folder / "tsconfig.json").write_text(json.dumps({"compilerOptions": OPTIONS}))

    def run(self, code: str, **settings: str) -> str:
        """Compile a program and run it; return what it prints."""
        (self.folder / "program.ts").write_text(code)
        self._node("node_modules/typescript/bin/tsc")
        return self._node("program.js", **settings)

    def _node(self, program: str, **settings: str) -> str:
        return subprocess.run(
            ["node", program],  # noqa: S607 - whichever node is installed
            cwd=self.folder,
            env=os.environ | settings,
            check=True,
            stdout=subprocess.PIPE,
            text=True,
        ).stdout

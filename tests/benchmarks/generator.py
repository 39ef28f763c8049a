"""The load generator: built from the shared C source, run as a process.

Its source stands beside this repository (``../shared/load``) and is not copied:
whoever changes the generator changes it for everybody who compares with it.
"""

from __future__ import annotations

import asyncio
import json
import shutil
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

DEFAULT_SOURCE = Path(__file__).resolve().parents[3] / "shared" / "load"
PATIENCE = 90.0


class GeneratorError(Exception):
    """The generator could not be built or gave no answer."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Measurement:
    """What the generator said about one run, and whom it drove."""

    system: str
    workload: str
    values: dict[str, Any]

    @property
    def rate(self) -> float:
        """Operations per second; for a broadcast, deliveries per second."""
        return float(self.values.get("deliveries_s", self.values["ops_s"]))

    @property
    def other_cores(self) -> float:
        """CPU that unrelated processes took during the run, in cores."""
        return float(self.values.get("other_cores", 0.0))

    @property
    def flaw(self) -> str | None:
        """Why this run proves nothing, or ``None``."""
        for key in ("errors", "lost", "wrong_state"):
            if self.values.get(key):
                detail = self.values.get("first_error", "")
                return f"{key}={self.values[key]} {detail}".strip()
        return None


async def build(source: Path, target: Path) -> Path:
    """Compile ``load.c`` from ``source`` into ``target``; return the program."""
    code = source / "load.c"
    if not code.is_file():
        raise GeneratorError(
            f"no load generator at {code}: check out the shared directory next to "
            "this repository or set DURABLE_LOAD_DIR to the directory of load.c"
        )
    compiler = shutil.which("gcc") or shutil.which("cc")
    if compiler is None:
        raise GeneratorError("no C compiler: install gcc to build the load generator")
    program = target / "load"
    process = await asyncio.create_subprocess_exec(
        compiler, "-O2", "-w", "-o", str(program), str(code),
        stderr=asyncio.subprocess.PIPE,
    )  # fmt: skip
    _, errors = await process.communicate()
    if process.returncode:
        raise GeneratorError(f"{code} does not compile:\n{errors.decode()}")
    return program


@dataclass(frozen=True, slots=True, kw_only=True)
class Generator:
    """Runs workloads; charges CPU to the process trees that it is told."""

    program: Path
    seconds: float
    warm: float

    async def run(
        self,
        *,
        system: str,
        url: str,
        workload: str,
        pids: Sequence[int],
        options: Sequence[str] = (),
    ) -> Measurement:
        """Drive one workload against one server.

        Raises:
            GeneratorError: the generator died or hung; wrong answers of the server
                are no error here but a flaw of the measurement.
        """
        process = await asyncio.create_subprocess_exec(
            str(self.program), url, workload,
            "-d", str(self.seconds), "-w", str(self.warm),
            "-P", ",".join(map(str, pids)), *options,
            stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.PIPE,
        )  # fmt: skip
        try:
            async with asyncio.timeout(PATIENCE):
                output, errors = await process.communicate()
        except TimeoutError:
            process.kill()
            await process.wait()
            raise GeneratorError(f"{workload} on {system}: hung") from None
        try:
            values = json.loads(output)
        except ValueError:
            text = (output + errors).decode(errors="replace")
            raise GeneratorError(f"{workload} on {system}: {text}") from None
        return Measurement(system=system, workload=workload, values=values)

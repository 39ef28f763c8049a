"""Write the tables of docs/semantics.md anew: ``python -m tests.parity``."""

from tests.parity.rules import PAGE, page

PAGE.write_text(page(PAGE.read_text(encoding="utf-8")), encoding="utf-8")

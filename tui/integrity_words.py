"""What findings of a verification mean, and on which grounds cells are erased, for people. Data alone."""

from __future__ import annotations

from .words import later

FINDINGS = {
    "changed": later("An entry or a cell is not what was written."),
    "removed": later("Something that was written is no longer there."),
    "inserted": later("Something is there that was not written through kaifu."),
    "reordered": later("Entries stand in another order than they were written in."),
    "blanked": later("A cell is missing, and no erasure names it."),
    "restored": later("A cell that was erased is there again."),
    "erased": later("A cell was erased before its time was over, or while it was on hold."),
    "cut": later("The end of the ledger is missing: an anchor knows of more."),
    "rewritten": later("The ledger is not the one that an anchor was made of."),
    "derived": later("Lists and states do not follow from the entries; kaifu ledger rebuild makes them anew."),
    "schema": later("A table is not as kaifu made it."),
    "index": later("An index is damaged or was changed: lists may leave something out."),
}
"""By the word of a finding."""

GROUNDS = {
    "retention": later("its time was over"),
    "request": later("a person asked for it"),
    "other": later("another ground"),
}
"""Grounds of erasures; others are told as they are."""

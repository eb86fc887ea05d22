"""The policy language: facts in, decision out. Pure, but for loading (``load``, ``document``, ``times``)."""

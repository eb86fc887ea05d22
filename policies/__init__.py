"""The policy language: facts in, decision out. Pure, but for :mod:`kaifu.policies.load`."""

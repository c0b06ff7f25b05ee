"""Engines: the contract, a real SGLang server (managed or not), and a scripted one."""

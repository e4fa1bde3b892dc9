"""Stands in for OpenAI's library, which llm imports for models of its own that no test uses.

Importing the real one takes each process longer than all the rest of llm.
"""

"""The page of conversations: files that browsers load, served as they are.

``marked.js`` is marked 18.2.1 as npm has it, without the address of its source map: it takes Markdown apart. MIT.
"""

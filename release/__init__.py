"""What is given away: a wheel in which everything lies under `draftproof`, and a folder `custom_generate/` for the hub.

Both are made from this repository's folders by giving our modules other names (`rewrite`). Needs the standard library and, for the wheel, setuptools;
imports nothing of ours, and nothing of ours imports it.
"""

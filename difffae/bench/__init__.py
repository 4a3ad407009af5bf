"""How fast the networks and the whole edit are, and how fast this machine could be: `python -m difffae bench`."""

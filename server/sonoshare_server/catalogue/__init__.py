"""The catalogue: publishes verified releases by a JSON API and a web page, and hands out tokens for them."""

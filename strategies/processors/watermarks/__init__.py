"""Watermarks: processors that leave a mark in a text which only the key's holder can find, each with its detector."""

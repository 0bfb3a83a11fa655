"""The grammar of the distribution protocol: text in, values out."""

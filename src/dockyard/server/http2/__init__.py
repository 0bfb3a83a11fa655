"""HTTP/2: the same application and the same bounds, on streams of one connection."""

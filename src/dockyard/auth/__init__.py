"""Who is asking, and what they may do. Text in, values out; files and threads where needed."""

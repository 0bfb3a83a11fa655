"""What a tree can't hold: a small database beside it, without which no image is lost."""

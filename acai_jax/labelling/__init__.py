"""What a person should label next, the page where labels are given, and where they are kept."""

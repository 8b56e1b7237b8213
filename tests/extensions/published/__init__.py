"""Files as they were published, at toy size, and what becomes of them."""

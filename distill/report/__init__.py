"""What was lost and what came back, at each step between a teacher and its student."""

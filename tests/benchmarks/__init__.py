"""The figures that Lucie is held to, measured against llama.cpp's own programs: `make bench`.

They are no tests: nothing in the test suite asserts a speed.
"""

__all__: list[str] = []

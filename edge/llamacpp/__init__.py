"""The engine on llama.cpp, through llama-cpp-python's low-level C API."""

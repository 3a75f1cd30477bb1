"""The model as an ONNX graph, and the files that ONNX Runtime's kinds look for."""

__all__: list[str] = []

"""From a trained model to GGUF and ONNX, checked against their source. Not built yet."""

__all__: list[str] = []

"""Networks on Hugging Face's hub: `save_pretrained`, `push_to_hub`, `from_pretrained`; pip install 'hdnn[hub]'."""

from hdnn.hub.network import HubNetwork

__all__ = ["HubNetwork"]

"""PyTorch front end: the device "rainshadow" (eager) and the torch.compile backend of that name.

from rainshadow.compiler.frontends.torch.device import register_device
register_device()
"""

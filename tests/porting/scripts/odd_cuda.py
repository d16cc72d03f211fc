"""A CUDA training script with the less common spellings, each once. Prints its losses."""

import copy
import sys

import torch
import torch.nn as nn
from torch.amp import GradScaler, autocast, custom_bwd, custom_fwd
from torch.utils.checkpoint import checkpoint

assert torch.cuda.is_available()
device = torch.device("cuda", torch.cuda.current_device())
torch.backends.cudnn.benchmark = True
torch.cuda.manual_seed_all(0)
torch.manual_seed(0)
print(torch.cuda.get_device_name(0), torch.cuda.get_device_properties(device).total_memory)


class Square(torch.autograd.Function):
    @staticmethod
    @custom_fwd(device_type="cuda")
    def forward(ctx, x):
        ctx.save_for_backward(x)
        return x * x

    @staticmethod
    @custom_bwd(device_type="cuda")
    def backward(ctx, gradient):
        (x,) = ctx.saved_tensors
        return 2 * x * gradient


class Model(nn.Module):
    def __init__(self):
        super().__init__()
        self.first, self.second = nn.Linear(8, 8), nn.Linear(8, 8)
        self.register_buffer("gain", torch.ones(8))

    def forward(self, x):
        return self.second(checkpoint(self.first, x * self.gain, use_reentrant=False))


model = nn.DataParallel(Model().to(device))
average = copy.deepcopy(model)
optimizer = torch.optim.AdamW(model.parameters(), lr=1e-2, foreach=True)
scaler = GradScaler()
stream = torch.cuda.Stream()
begin, end = torch.cuda.Event(enable_timing=True), torch.cuda.Event(enable_timing=True)
for _ in range(3):
    begin.record()
    with torch.cuda.stream(stream):
        x = torch.randn(4, 8, pin_memory=True).to(device, non_blocking=True)
    torch.cuda.current_stream().wait_stream(stream)
    with autocast("cuda", dtype=torch.float16):
        loss = Square.apply(model(x)).mean()
    scaler.scale(loss).backward()
    scaler.step(optimizer)
    scaler.update()
    optimizer.zero_grad()
    end.record()
    torch.cuda.synchronize()
    assert begin.elapsed_time(end) > 0
    assert loss.is_cuda
    print(loss.item())

path = sys.argv[1]
state = {"model": model.state_dict(), "optimizer": optimizer.state_dict()}
torch.save({**state, "rng": torch.cuda.get_rng_state()}, path)
loaded = torch.load(path, map_location=device)
model.load_state_dict(loaded["model"])
optimizer.load_state_dict(loaded["optimizer"])
with torch.inference_mode():
    model(torch.zeros(1, 8, device="cuda"))
torch.cuda.empty_cache()
print(torch.cuda.memory_summary())

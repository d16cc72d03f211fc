"""As torchrun would start it with one process: DDP, a sampler, collectives."""

import os
from contextlib import nullcontext

import torch
import torch.distributed as dist
from torch import nn
from torch.nn.parallel import DistributedDataParallel as DDP
from torch.utils.data import DataLoader, TensorDataset
from torch.utils.data.distributed import DistributedSampler

dist.init_process_group(backend="nccl", init_method="env://")
local_rank = int(os.environ.get("LOCAL_RANK", 0))
torch.cuda.set_device(local_rank)
torch.manual_seed(0)
model = nn.Sequential(nn.Linear(16, 32), nn.GELU(), nn.Linear(32, 4)).cuda(local_rank)
model = DDP(model, device_ids=[local_rank], find_unused_parameters=True)
data = TensorDataset(torch.randn(32, 16), torch.randint(0, 4, (32,)))
optimizer = torch.optim.AdamW(model.parameters(), lr=1e-2)
for number, (x, y) in enumerate(DataLoader(data, 8, sampler=DistributedSampler(data))):
    x, y = x.cuda(), y.cuda()
    accumulates = number % 2 == 0
    with model.no_sync() if accumulates else nullcontext():
        loss = nn.functional.cross_entropy(model(x), y)
        loss.backward()
    if not accumulates:
        optimizer.step()
        optimizer.zero_grad()
    mean = loss.detach().clone()
    dist.all_reduce(mean, op=dist.ReduceOp.AVG)
    everyone = [torch.zeros_like(mean)]
    dist.all_gather(everyone, mean)
    objects = [{"loss": mean.item()}]
    dist.broadcast_object_list(objects, src=0)
    assert everyone[0].item() == mean.item() == objects[0]["loss"] == loss.item()
dist.barrier()
assert dist.get_world_size() == 1
assert all(name.startswith("module.") for name in model.state_dict())
dist.destroy_process_group()

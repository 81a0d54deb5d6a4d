"""One single-threaded process a core that train one model together, with checkpoints to go on from."""

import datetime
import json
import os
import time
from pathlib import Path

import torch
import torch.distributed as dist
import torch.multiprocessing as mp


def launch(train, arguments):
    """Runs `train(run, arguments)` in `arguments.processes` processes; their ids are in FOLDER/pids."""
    folder = Path(arguments.out)
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "meeting").unlink(missing_ok=True)
    mp.spawn(begin, (train, arguments), nprocs=arguments.processes, join=True)


def begin(rank, train, arguments):
    torch.set_num_threads(1)
    run = Run(rank, arguments.processes, Path(arguments.out))
    run.meet()
    train(run, arguments)
    if run.world > 1:
        dist.destroy_process_group()


class Run:
    def __init__(self, rank, world, folder, every=150.0):
        self.rank, self.world, self.folder, self.every = rank, world, folder, every
        self.saved = time.time()
        self.spent = 0.0  # processor seconds of earlier runs, all processes

    def meet(self):
        if self.world > 1:
            patience = datetime.timedelta(hours=12)  # processes may be stopped for a while
            where = (self.folder / "meeting").absolute().as_uri()
            dist.init_process_group("gloo", where, rank=self.rank, world_size=self.world, timeout=patience)
        with open(self.folder / "pids", "a") as out:
            out.write(f"{os.getpid()}\n")

    def processor_seconds(self):
        """Of all processes, by this one's: they wait for each other at every step."""
        return self.spent + self.world * time.process_time()

    def save(self, state, force=False):
        """`state()` is asked for what to keep only when it is time to save."""
        if self.rank != 0 or not (force or time.time() - self.saved > self.every):
            return
        whole = {**state(), "seconds": self.processor_seconds()}
        torch.save(whole, self.folder / "new.pt")
        os.replace(self.folder / "new.pt", self.folder / "last.pt")
        self.saved = time.time()

    def resume(self):
        path = self.folder / "last.pt"
        if not path.exists():
            return None
        state = torch.load(path, weights_only=False)
        self.spent = state["seconds"]
        return state

    def log(self, **values):
        if self.rank != 0:
            return
        line = {"time": time.strftime("%H:%M:%S"), "cpu": round(self.processor_seconds()), **values}
        with open(self.folder / "log.jsonl", "a") as out:
            out.write(json.dumps({k: round(v, 4) if isinstance(v, float) else v for k, v in line.items()}) + "\n")


def rate(step, steps, flat, warm=45):
    """Rises over `warm` steps, stays 1 for the share `flat` of all, falls to 0 in a line."""
    rise = min(1.0, (step + 1) / warm)
    return rise * min(1.0, max(0.0, (steps - step) / (steps * (1 - flat))))

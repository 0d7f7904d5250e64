"""Probes of wmkit on the world model of NM512/dreamerv3-torch, driven from a checkout of your own.

python docs/examples/probe_dreamerv3_torch.py /path/to/dreamerv3-torch [--steps N] [--out DIR]
"""

import argparse
import sys
from pathlib import Path
from types import SimpleNamespace

import torch
from omegaconf import OmegaConf

import wmkit
from wmkit.probing import Fit, ForeignModel, Plan
from wmkit_envs import LookAround

WORLD = LookAround()
SMALL = {"device": "cpu", "num_actions": WORLD.action_dim, "units": 128, "dyn_hidden": 128, "dyn_deter": 128,
         "dyn_stoch": 16, "dyn_discrete": 16, "model_lr": 1e-3}  # fmt: skip


def build(checkout):
    """Their world model as their configs.yaml has it, but `SMALL`."""
    import models  # of the checkout

    config = OmegaConf.to_container(OmegaConf.load(checkout / "configs.yaml"))["defaults"]
    config |= SMALL | {part: config[part] | {"cnn_depth": 16} for part in ("encoder", "decoder")}
    channels, *sides = WORLD.image_shape
    spaces = {"image": SimpleNamespace(shape=(*sides, channels))}  # all that it asks of Gym's spaces
    return models.WorldModel(SimpleNamespace(spaces=spaces), None, 0, SimpleNamespace(**config))


def train(model, steps, episodes=200, rows=8, length=50):
    """By their loss, optimiser and sampling. As in wmkit, action[t] led to image[t]."""
    import tools

    keys = ("image", "action", "reward", "is_first", "is_terminal")
    replay = [WORLD.generate(seed=0, split="train", index=index) for index in range(episodes)]
    replay = {index: {key: episode[key] for key in keys} for index, episode in enumerate(replay)}
    batches = tools.from_generator(tools.sample_episodes(replay, length), rows)
    for step in range(1, steps + 1):
        _, _, metrics = model._train(next(batches))
        if step % 50 == 0 or step == steps:
            print(f"step {step}/{steps}: image_loss {metrics['image_loss']:.1f}, kl {metrics['kl']:.2f}", flush=True)


def wrapped(model, make=None):
    """Three functions of it. Latents are sampled, as in training."""
    rssm = model.dynamics

    def encode(image):  # (B, C, H, W) in [0, 1] -> (B, E); theirs has channels last and subtracts 0.5 itself
        return model.encoder({"image": image.permute(0, 2, 3, 1)})

    def step(embedding, action, state):
        if embedding is None:
            state = rssm.img_step(state, action)
        else:  # without a state they begin at their initial one and leave the action out
            state, _ = rssm.obs_step(state, action, embedding, is_first=torch.zeros(len(action)))
        return rssm.get_feat(state), state

    def decode(features):  # their decoder wants time too: (B, 1, F) -> (B, 1, H, W, C)
        return model.heads["decoder"](features[:, None])["image"].mode()[:, 0].permute(0, 3, 1, 2)

    return ForeignModel(encode, step, decode, modules=(model,), make=make)


def main():
    """Train, probe, print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("checkout", type=Path, help="git clone https://github.com/NM512/dreamerv3-torch")
    parser.add_argument("--steps", type=int, default=400, help="of training")
    parser.add_argument("--out", type=Path, help="a folder for tables, records and pictures")
    options = parser.parse_args()
    lacking = [name for name in ("models.py", "networks.py", "tools.py", "configs.yaml")
               if not (options.checkout / name).is_file()]  # fmt: skip
    if lacking:
        parser.error(f"expected a checkout of NM512/dreamerv3-torch, {options.checkout} has no {', '.join(lacking)}; "
                     "git clone https://github.com/NM512/dreamerv3-torch, and give its folder")  # fmt: skip
    sys.path.insert(0, str(options.checkout))
    torch.manual_seed(0)
    model = build(options.checkout)
    train(model, options.steps)
    plan = Plan(seeds=1, episodes=150, held_out=16, every=5, fit=Fit(steps=300))
    friend = wrapped(model, make=lambda seed: wrapped(build(options.checkout)))
    found = wmkit.probe(friend, WORLD, ["object_recall"], plan=plan, out=options.out)
    if options.out is None:  # else it has printed itself
        print(*(table.markdown() for table in found.tables()), *found.steps.verdicts, *found.notes, sep="\n")


if __name__ == "__main__":
    main()

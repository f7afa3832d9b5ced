"""The programs in examples/ do what they say."""

import csv
import pkgutil
import runpy
import sys
import tomllib
from pathlib import Path

import pytest
import torch

EXAMPLES = Path(__file__).parents[1] / "examples"


def test_a_kernel_of_ones_own_has_the_repulsion_that_it_states(draw):
    own = runpy.run_path(str(EXAMPLES / "own_kernel.py"))
    kernel, x, y, w = own["SmoothLaplace"](0.7), draw(3, 2), draw(4, 2, seed=1).requires_grad_(), draw(4, seed=2)
    gram, repulsion = kernel(x, y)
    for i in range(3):
        (gradient,) = torch.autograd.grad(gram[i].sum(), y, retain_graph=True)
        torch.testing.assert_close(repulsion(w)[i], (w[:, None] * gradient).sum(0))
    assert torch.equal(kernel(x, x)[0].diagonal(), torch.ones(3, dtype=torch.float64))


def test_particles_have_the_mean_of_a_logistic_posterior():
    """Against importance sampling from the Laplace approximation: 100,000 draws know the mean to about 1e-3."""
    own = runpy.run_path(str(EXAMPLES / "own_kernel.py"))
    inputs, labels = own["data"]()

    def log_joint(w):
        logits = w @ inputs.mT
        return (labels * logits - torch.nn.functional.softplus(logits)).sum(-1) - 0.5 * w.square().sum(-1)

    mode = torch.zeros(3, dtype=torch.float64)
    for _ in range(20):
        mode = mode - torch.linalg.solve(torch.func.hessian(log_joint)(mode), torch.func.grad(log_joint)(mode))
    torch.testing.assert_close(own["score"](mode[None], inputs, labels)[0], torch.zeros_like(mode), rtol=0, atol=1e-10)
    root = torch.linalg.cholesky(torch.linalg.inv(-torch.func.hessian(log_joint)(mode)))
    noise = torch.randn(100_000, 3, generator=torch.Generator().manual_seed(2), dtype=torch.float64)
    draws = mode + noise @ root.mT
    weights = torch.softmax(log_joint(draws) + 0.5 * noise.square().sum(-1), 0)
    mean = weights @ draws
    std = (weights @ (draws - mean).square()).sqrt()
    particles = own["fit"]()
    assert ((particles.mean(0) - mean).abs() < 0.1 * std).all()
    assert ((particles.std(0) / std - 1.0).abs() < 0.25).all()


def test_an_environment_of_ones_own_is_learnt_from_the_command_line(tmp_path, monkeypatch):
    """Without any action an episode returns -20 E[x^2] = -20 / 3 on average; one that pushes to the origin at once, about -1."""
    monkeypatch.chdir(EXAMPLES)
    main = pkgutil.resolve_name(tomllib.loads((EXAMPLES.parent / "pyproject.toml").read_text())["project"]["scripts"]["wgf"])
    args = "train sac --env own_environment:Point-v0 --preset modern --hidden 32 --batch 64 --steps 1500 --warmup 300 --eval-every 1500"
    monkeypatch.setattr(
        sys, "argv", ["wgf", *args.split(), "--eval-episodes", "20", "--device", "cpu", "--threads", "1", "--out", str(tmp_path)]
    )
    with pytest.raises(SystemExit, match=r"^0$"):
        main()
    (metrics,) = tmp_path.rglob("metrics.csv")
    with open(metrics, newline="") as file:
        returns = [float(row["value"]) for row in csv.DictReader(file) if row["tag"] == "eval/return"]
    assert returns[-1] > -2.5

"""Low-rank adapters under DP: the engine's rules hold on the very model, and a charged training moves only them."""

import torch

from sonoshare_client.agent.draws import loss_of, probe
from sonoshare_privacy.patient_gradients import PatientGradients, check_engine
from sonoshare_server.consortium.studies import phantom_clip_norm
from sonoshare_shared.science.model.adapter import prepare, trained_parameters
from sonoshare_shared.science.model.base import load_base

torch.set_num_threads(1)


def test_per_patient_gradients_of_low_rank_layers_are_right() -> None:
    model, _ = load_base("tiny")
    prepare(model, "lora")
    # Only where `up` has left zero does every factor have a gradient.
    with torch.no_grad():
        for name, parameter in trained_parameters(model, "lora").items():
            if name.endswith(".up.weight"):
                parameter.normal_(0, 0.05, generator=torch.Generator().manual_seed(len(name)))
    parameters = trained_parameters(model, "lora")
    engine = PatientGradients(model, parameters, draws=2, clip_norm=1.0, clip_mode="clip", places=8)
    check_engine(engine, probe(model, 2), loss_of(model))


def test_the_clip_norm_of_low_rank_layers_comes_from_phantoms() -> None:
    model, _ = load_base("tiny")
    prepare(model, "lora")
    assert phantom_clip_norm(model, "lora", 2) > 0

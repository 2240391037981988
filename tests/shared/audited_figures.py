"""Figures of an audit that measured everything, as a hospital would sign them."""

from tests.shared.consortium import figures

from sonoshare_shared.protocol.documents.figures import (
    AttackFigures,
    AuditFigures,
    Histograms,
    MechanismFigures,
    MembershipFigures,
    RoughLook,
)


def full_figures() -> AuditFigures:
    """Histograms, both attacks and canaries."""
    least = figures()
    seen = Histograms(
        edges=(0.412, 0.447, 0.489, 0.661), trained=(31, 44, 38, 36, 2), held_out=(14, 12, 16, 9, -1), epsilon=0.5
    )
    copies = least.copies.model_copy(update={"noisy_count": 2, "histograms": seen})
    loss = MembershipFigures(
        attack="denoising loss",
        auc=0.54,
        interval=(0.44, 0.64),
        histograms=Histograms(
            edges=(-1.2, -0.9, -0.6), trained=(36, 33, 41, 44), held_out=(13, 15, 12, 11), epsilon=0.4
        ),
        rough_look=RoughLook(edges=(-2.0, -1.0, 0.0), counts=(3, 60, 90, 1), epsilon=0.1),
        tpr_at_1_fpr=0.013,
        tpr_interval=(0.0, 0.06),
    )
    images = AttackFigures(attack="released images", auc=0.51, interval=(0.42, 0.6), histograms=seen)
    canaries = MechanismFigures(
        checked=True,
        canaries=72,
        steps=24,
        steps_charged=24,
        faults=(),
        noise=1.02,
        smallest_noise_seen=0.74,
        rate=0.99,
        epsilon_proved=0.41,
        epsilon_claimed=5.2,
    )
    return least.model_copy(
        update={"copies": copies, "membership": loss, "images_attack": images, "mechanism": canaries}
    )

"""What the images are and teach: imaging, phantoms, the generative model, calibration and evaluation.

Nothing here signs or verifies; results enter documents of ``sonoshare_shared.protocol`` as plain values.
"""

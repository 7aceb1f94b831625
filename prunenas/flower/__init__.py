"""The same federated training over Flower (flower.ai): in its simulation, or over SuperNodes.

All that is learnt and decided is the room ``federated``'s; here it only travels. `simulate` runs a
training on this machine, `submit` on a SuperLink that is there; both run the same Flower app, whose
server is ``prunenas.flower.server:app`` and whose client is ``prunenas.flower.client:app``.

This file imports neither Flower nor PyTorch, so that whoever has no Flower can import it.
"""

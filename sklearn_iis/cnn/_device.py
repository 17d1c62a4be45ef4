"""The device that a network trains on, and the precision that it computes in."""

import torch


def resolve_device(device: str) -> torch.device:
    """Return the GPU, if there is one, for "auto"."""
    if device == "auto":
        device = "cuda" if torch.cuda.is_available() else "cpu"
    return torch.device(device)


def resolve_precision(precision: str, device: torch.device) -> str:
    """Return "bfloat16" for "auto" where the device multiplies in it."""
    if precision != "auto":
        return precision
    if device.type == "cuda":
        bfloat16 = torch.cuda.is_bf16_supported(including_emulation=False)
    else:
        capabilities = torch.cpu.get_capabilities()
        bfloat16 = any(capabilities.get(k) for k in ("avx512_bf16", "amx_bf16"))
    return "bfloat16" if bfloat16 else "float32"

"""Files of weights, whatever wrote them: read without running code in them, and only as far as they are needed."""

REMEDY = "give the path of a .safetensors, .pt, .pth, .ckpt or .bin file"

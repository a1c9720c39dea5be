"""Steps of torch.optim.AdamW with and without clipping, for the test of the optimizer. usage: make_adamw_golden.py > adamw.json   needs: torch"""
import json
import torch

torch.manual_seed(0)
cases = []
for lr, decay, betas, eps, clip in [(2e-4, 0.01, (0.9, 0.999), 1e-8, 0.0), (0.05, 0.1, (0.8, 0.95), 1e-6, 1.0)]:
    w = torch.nn.Parameter(torch.randn(12))
    case = dict(lr=lr, weight_decay=decay, beta1=betas[0], beta2=betas[1], epsilon=eps, clip=clip, start=w.tolist(), gradients=[], values=[], norms=[])
    adamw = torch.optim.AdamW([w], lr=lr, betas=betas, eps=eps, weight_decay=decay)
    for step in range(6):
        w.grad = torch.randn(12) * 10 ** (step - 3)
        case["gradients"].append(w.grad.tolist())
        case["norms"].append(float(w.grad.norm()))
        if clip: torch.nn.utils.clip_grad_norm_([w], clip)
        adamw.step()
        case["values"].append(w.tolist())
    cases.append(case)
print(json.dumps(dict(torch=torch.__version__, cases=cases), indent=1))

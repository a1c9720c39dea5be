"""llama_cpp without its AMX kernels, for the checks beside this file: those of 0.3 end with a fault on K types."""
import llama_cpp

_defaults = llama_cpp.llama_cpp.llama_model_default_params


def _without_extra_buffers():
    parameters = _defaults()
    parameters.use_extra_bufts = False
    return parameters


llama_cpp.llama_model_default_params = llama_cpp.llama_cpp.llama_model_default_params = _without_extra_buffers

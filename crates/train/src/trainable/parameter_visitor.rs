//! The parameters of any module, in the order of its fields, each with its path as name.

use burn::module::{Module, ModuleMapper, ModuleVisitor, Param};
use burn::tensor::{Device, Tensor};

/// Visits parameters; values are on their own device, with autodiff if they are trainable.
pub(crate) trait ParameterVisitor {
    /// Visits the parameter called `name`.
    fn visit<const D: usize>(&mut self, name: &str, value: Tensor<D>);
}

/// Visits every parameter in the order of the module's fields.
pub(crate) fn visit_parameters(module: &impl Module, visitor: &mut impl ParameterVisitor) {
    struct Visitor<'a, V> {
        path: Vec<String>,
        visitor: &'a mut V,
    }
    impl<V: ParameterVisitor> ModuleVisitor for Visitor<'_, V> {
        fn visit_float<const D: usize>(&mut self, param: &Param<Tensor<D>>) {
            self.visitor.visit(&self.path.join("."), param.val());
        }

        fn enter_module(&mut self, name: &str, _container: &str) {
            self.path.push(name.to_owned());
        }

        fn exit_module(&mut self, _name: &str, _container: &str) {
            self.path.pop();
        }
    }
    module.visit(&mut Visitor { path: Vec::new(), visitor });
}

/// A parameter of a module.
pub(crate) struct Parameter {
    pub name: String,
    pub shape: Vec<usize>,
    pub is_trainable: bool,
    /// Flattened, without autodiff.
    pub value: Tensor<1>,
}

/// Every parameter in the order of the module's fields.
pub(crate) fn parameters(module: &impl Module) -> Vec<Parameter> {
    struct Collect(Vec<Parameter>);
    impl ParameterVisitor for Collect {
        fn visit<const D: usize>(&mut self, name: &str, value: Tensor<D>) {
            self.0.push(Parameter {
                name: name.to_owned(),
                shape: value.dims().to_vec(),
                is_trainable: value.device().is_autodiff(),
                value: flatten(value.inner()),
            });
        }
    }
    let mut collected = Collect(Vec::new());
    visit_parameters(module, &mut collected);
    collected.0
}

/// Replaces every parameter in the order of the module's fields. `f` maps the flattened old value,
/// without autodiff, to the new one. Each parameter keeps its device, with or without autodiff.
pub(crate) fn map_parameters<M: Module>(module: M, f: &mut dyn FnMut(Tensor<1>) -> Tensor<1>) -> M {
    struct Mapper<'a>(&'a mut dyn FnMut(Tensor<1>) -> Tensor<1>);
    impl ModuleMapper for Mapper<'_> {
        fn map_float<const D: usize>(&mut self, param: Param<Tensor<D>>) -> Param<Tensor<D>> {
            let value = param.val();
            let device: Device = value.device();
            let shape = value.dims();
            let value = (self.0)(flatten(value.inner())).reshape(shape);
            Param::from_tensor(if device.is_autodiff() { value.autodiff() } else { value })
        }
    }
    module.map(&mut Mapper(f))
}

/// Number of trainable parameters of a module.
pub(super) fn count_trainable(module: &impl Module) -> usize {
    struct Count(usize);
    impl ParameterVisitor for Count {
        fn visit<const D: usize>(&mut self, _name: &str, value: Tensor<D>) {
            if value.device().is_autodiff() {
                self.0 += value.shape().num_elements();
            }
        }
    }
    let mut count = Count(0);
    visit_parameters(module, &mut count);
    count.0
}

/// A tensor with all its elements in one dimension.
pub(crate) fn flatten<const D: usize>(tensor: Tensor<D>) -> Tensor<1> {
    let count = tensor.shape().num_elements();
    tensor.reshape([count])
}

/// Moves every parameter to the autodiff device, as a trainable leaf.
pub(super) fn require_grad<M: Module>(module: M) -> M {
    struct Mapper;
    impl ModuleMapper for Mapper {
        fn map_float<const D: usize>(&mut self, param: Param<Tensor<D>>) -> Param<Tensor<D>> {
            Param::from_tensor(param.val().inner().autodiff())
        }
    }
    module.map(&mut Mapper)
}

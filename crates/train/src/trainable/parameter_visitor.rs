//! A module's parameters one after the other, flat, each with its place in the module as name.

use burn::module::{Module, ModuleMapper, ModuleVisitor, Param};
use burn::tensor::{Device, Tensor};

/// What is done with each parameter; its value comes as it is, with autodiff where it has it.
pub(crate) trait ParameterVisitor {
    /// Looks at a parameter called `name`.
    fn visit_parameters<const D: usize>(&mut self, name: &str, value: Tensor<D>);
}

/// Visits every parameter in the order of the module's fields.
pub(crate) fn visit_parameters(module: &impl Module, visitor: &mut impl ParameterVisitor) {
    struct Visitor<'a, V> {
        path: Vec<String>,
        visitor: &'a mut V,
    }
    impl<V: ParameterVisitor> ModuleVisitor for Visitor<'_, V> {
        fn visit_float<const D: usize>(&mut self, param: &Param<Tensor<D>>) {
            self.visitor.visit_parameters(&self.path.join("."), param.val());
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

/// Replaces every parameter, in the order of the module's fields. `next` gets the old value, flat
/// and without autodiff, and gives the new one; each stays on its device, with autodiff or without
/// it as before.
pub(crate) fn map_parameters<M: Module>(
    module: M,
    next: &mut dyn FnMut(Tensor<1>) -> Tensor<1>,
) -> M {
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
    module.map(&mut Mapper(next))
}

/// How many numbers of a module can learn.
pub(crate) fn count_trainable(module: &impl Module) -> usize {
    struct Count(usize);
    impl ParameterVisitor for Count {
        fn visit_parameters<const D: usize>(&mut self, _name: &str, value: Tensor<D>) {
            if value.device().is_autodiff() {
                self.0 += value.shape().num_elements();
            }
        }
    }
    let mut count = Count(0);
    visit_parameters(module, &mut count);
    count.0
}

/// All numbers of a tensor in a row.
pub(crate) fn flatten<const D: usize>(tensor: Tensor<D>) -> Tensor<1> {
    let count = tensor.shape().num_elements();
    tensor.reshape([count])
}

/// The same module with every parameter a leaf that can learn.
pub(crate) fn require_grad<M: Module>(module: M) -> M {
    struct Mapper;
    impl ModuleMapper for Mapper {
        fn map_float<const D: usize>(&mut self, param: Param<Tensor<D>>) -> Param<Tensor<D>> {
            Param::from_tensor(param.val().inner().autodiff())
        }
    }
    module.map(&mut Mapper)
}

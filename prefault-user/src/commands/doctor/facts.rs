//! What of a kernel decides, for bug reports and as test data.

use anyhow::Result;

use crate::{
    kernel::{
        Kernel,
        frozen::{Function, KernelFacts},
        names::{Name, shown},
    },
    sites::{Placing, Sites},
};

/// The facts that decide on this kernel.
pub fn frozen(kernel: &Kernel) -> Result<KernelFacts> {
    let sites = Sites::find(kernel, Placing::default())?;
    let named = |address, with_text| Function { address, with_text };
    let mut functions: Vec<Function> = sites.targets.iter().map(|target| named(target.address, true)).collect();
    functions.extend(sites.sites.iter().map(|site| named(site.call.caller_address, true)));
    functions.extend(sites.paths.iter().map(|path| named(path.address, true)));
    // Where paths return is decided by the parts that the compiler split off and by the thunks they return through.
    let decides_returns = |name: &str| {
        let whole = name.split_once(".cold").map(|(whole, _)| whole);
        name.ends_with("return_thunk")
            || whole.is_some_and(|whole| sites.paths.iter().any(|path| path.function == shown(whole)))
    };
    let deciding = kernel.symbols.iter().filter(|symbol| decides_returns(symbol.name));
    functions.extend(deciding.map(|symbol| named(symbol.address, Name::of(symbol.name).is_cold)));
    functions.sort_by_key(|function| function.address);
    functions.dedup_by_key(|function| function.address);
    Ok(KernelFacts::save(kernel, &functions))
}

//! What is said about a function compared with what happens on random ways through it: every call is met by its points once
//! and in order, and the holders hold what they are said to hold.

use std::collections::{BTreeSet, HashMap};

use iced_x86::{Decoder, DecoderOptions, Instruction};

use super::machine::{Flow, Machine, Value};
use crate::{
    kernel::Kernel,
    sites::{ArgLocation, Path, Placing, Site, Sites},
};

/// Instructions that one walk runs at most.
const MOST_STEPS: usize = 250;
/// The number of the stack pointer, which holds nothing.
const STACK_POINTER: u8 = 4;
const RESULT: u8 = 0;

/// What an address stands for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Point {
    Entry,
    Begin(usize),
    End(usize),
    Return,
}

/// Compares what is found in `kernel` with `n_walks` walks through each function. The number of calls that were met.
///
/// # Errors
/// What was said of a function and is not so.
pub fn check(
    kernel: &Kernel,
    placing: Placing,
    n_walks: usize,
    chance: &mut dyn FnMut() -> bool,
) -> Result<u64, String> {
    let Ok(sites) = Sites::find(kernel, placing) else { return Ok(0) };
    let callers = sites.sites.iter().map(|site| site.call.caller_address);
    let functions: BTreeSet<u64> = callers.chain(sites.paths.iter().map(|path| path.address)).collect();
    let mut n_calls = 0;
    for function in functions {
        let Some(function) = Function::read(kernel, &sites, function) else { continue };
        function.points_are_apart()?;
        for _ in 0..n_walks {
            n_calls += function.walk(chance)?;
        }
    }
    Ok(n_calls)
}

/// A function with everything that is said about it.
struct Function<'a> {
    kernel: &'a Kernel,
    start: u64,
    code: HashMap<u64, Instruction>,
    points: Vec<(u64, Point)>,
    sites: &'a [Site],
    path: Option<&'a Path>,
}

impl<'a> Function<'a> {
    /// Reads the function at `start`, and the parts that were split off from it.
    fn read(kernel: &'a Kernel, sites: &'a Sites, start: u64) -> Option<Self> {
        let (symbol, _) = kernel.symbols.containing(start)?;
        let path = sites.paths.iter().find(|path| path.address == start);
        let mut function = Self { kernel, start, code: HashMap::new(), points: Vec::new(), sites: &sites.sites, path };
        function.add(start)?;
        let part = format!("{}.cold", symbol.name);
        let jumps: Vec<u64> = function.code.values().map(Instruction::near_branch_target).collect();
        for target in jumps {
            if let Some((other, range)) = kernel.symbols.containing(target)
                && other.name == part
            {
                function.add(range.start)?;
            }
        }
        for (number, site) in sites.sites.iter().enumerate() {
            if function.code.contains_key(&site.call.address) {
                function.points.push((site.around.begin, Point::Begin(number)));
                function.points.extend(site.around.ends.iter().map(|&end| (end, Point::End(number))));
            }
        }
        if let Some(path) = path {
            function.points.push((path.entry, Point::Entry));
            function.points.extend(path.returns.iter().flatten().map(|&at| (at, Point::Return)));
        }
        Some(function)
    }

    fn add(&mut self, address: u64) -> Option<()> {
        let (_, range) = self.kernel.symbols.containing(address)?;
        let mut text = vec![0; (range.end - range.start) as usize];
        self.kernel.text.read_text(range.start, &mut text).ok()?;
        let instructions = Decoder::with_ip(64, &text, range.start, DecoderOptions::NONE).into_iter();
        self.code.extend(instructions.map(|instruction| (instruction.ip(), instruction)));
        Some(())
    }

    /// What runs first of two points at one address is not known.
    fn points_are_apart(&self) -> Result<(), String> {
        for (index, (address, point)) in self.points.iter().enumerate() {
            if let Some((_, other)) = self.points[..index].iter().find(|(other, _)| other == address) {
                return Err(self.complain(*address, format_args!("{point:?} is where {other:?} is")));
            }
            // An entry may be where the kernel's tracer has its own.
            if !self.code.contains_key(address) {
                return Err(self.complain(*address, format_args!("{point:?} is on no instruction")));
            }
        }
        Ok(())
    }

    fn complain(&self, at: u64, what: std::fmt::Arguments<'_>) -> String {
        format!("at {at:#x} in the function at {:#x}: {what}", self.start)
    }

    /// Whether a jump to `target`, outside the function, returns to whoever called; `None` if it is into the middle of
    /// something, where nobody can be followed.
    fn leaves_to(&self, target: u64) -> Option<bool> {
        let (other, range) = self.kernel.symbols.containing(target)?;
        (range.start == target).then(|| other.name.ends_with("return_thunk"))
    }

    fn walk(&self, chance: &mut dyn FnMut() -> bool) -> Result<u64, String> {
        let mut walk = Walk { function: self, machine: Machine::new(), state: State::default(), n_calls: 0 };
        let mut at = self.start;
        for _ in 0..MOST_STEPS {
            let Some(instruction) = self.code.get(&at).filter(|instruction| !instruction.is_invalid()) else {
                break;
            };
            let flow = walk.step(instruction, chance).map_err(|what| self.complain(at, format_args!("{what}")))?;
            let left = match flow {
                // To go to its own entry is to be called again.
                Flow::To(next) if next == self.start => Some(false),
                Flow::To(next) if self.code.contains_key(&next) || next == instruction.next_ip() => {
                    at = next;
                    continue;
                }
                Flow::To(next) => self.leaves_to(next),
                Flow::Return => Some(true),
                Flow::Stuck => None,
            };
            if let Some(returns) = left {
                walk.leave(returns).map_err(|what| self.complain(at, format_args!("{what}")))?;
            }
            break;
        }
        Ok(walk.n_calls)
    }
}

/// What the programs would know.
#[derive(Default)]
struct State {
    n_entered: u32,
    /// The result at the point of the return.
    returned: Option<Value>,
    pending: Pending,
}

/// An operation that is going on.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum Pending {
    #[default]
    Nothing,
    /// The point before the call was met; what it says of the arguments, as far as it does.
    Begun { site: usize, said: [Option<Value>; 2] },
    /// The function has been called.
    Called { site: usize, arguments: [Value; 2], result: Value },
}

/// A way through a function.
struct Walk<'a> {
    function: &'a Function<'a>,
    machine: Machine,
    state: State,
    n_calls: u64,
}

impl Walk<'_> {
    fn step(&mut self, instruction: &Instruction, chance: &mut dyn FnMut() -> bool) -> Result<Flow, String> {
        let function = self.function;
        for (_, point) in function.points.iter().filter(|(address, _)| *address == instruction.ip()) {
            self.meet(*point)?;
        }
        let called = function.sites.iter().position(|site| site.call.address == instruction.ip());
        let arguments = called
            .map(|site| function.sites[site].target.signature.registers().map(|number| self.machine.register(number)));
        let flow = self.machine.run(instruction, chance);
        if let Some((site, arguments)) = called.zip(arguments) {
            self.call(site, arguments)?;
        }
        Ok(flow)
    }

    fn meet(&mut self, point: Point) -> Result<(), String> {
        if self.state.returned.is_some() {
            return Err(format!("{point:?} is met behind the point of a return"));
        }
        let pending = self.state.pending;
        match point {
            Point::Entry => self.state.n_entered += 1,
            Point::Begin(site) => {
                if pending != Pending::Nothing {
                    return Err(format!("{point:?} is met while there is {pending:?}"));
                }
                let around = &self.function.sites[site].around;
                self.state.pending = Pending::Begun { site, said: [self.held(around.asked)?, self.held(around.iter)?] };
            }
            Point::End(site) => self.end(site, pending)?,
            Point::Return => {
                if pending != Pending::Nothing {
                    return Err(format!("a return is met while there is {pending:?}"));
                }
                self.state.returned = Some(self.machine.register(RESULT));
            }
        }
        Ok(())
    }

    /// What `holder` holds; `None` if only behind the call.
    fn held(&mut self, holder: ArgLocation) -> Result<Option<Value>, String> {
        Ok(match holder {
            ArgLocation::Register(STACK_POINTER) => {
                return Err("the stack pointer is said to hold something".to_owned());
            }
            ArgLocation::Register(number) => Some(self.machine.register(number)),
            ArgLocation::StackWord(word) => Some(self.machine.stack_word(word)),
            ArgLocation::RegisterBehind(_) => None,
        })
    }

    fn call(&mut self, site: usize, arguments: [Value; 2]) -> Result<(), String> {
        self.n_calls += 1;
        match self.state.pending {
            Pending::Begun { site: begun, said } if begun == site => {
                for (said, real) in said.into_iter().zip(arguments) {
                    if said.is_some_and(|said| said != real) {
                        return Err(format!("call {site} has {real:?}, {said:?} was said"));
                    }
                }
            }
            other => return Err(format!("call {site} is made while there is {other:?}")),
        }
        self.state.pending = Pending::Called { site, arguments, result: self.machine.register(RESULT) };
        Ok(())
    }

    fn end(&mut self, site: usize, pending: Pending) -> Result<(), String> {
        let around = &self.function.sites[site].around;
        match pending {
            Pending::Nothing if around.shared => return Ok(()),
            Pending::Called { site: called, arguments, result } if called == site => {
                let there = self.machine.register(RESULT);
                if there != result {
                    return Err(format!("the result of call {site} is {result:?}, {there:?} is there"));
                }
                if let ArgLocation::RegisterBehind(number) = around.asked
                    && self.machine.register(number) != arguments[0]
                {
                    return Err(format!("what was asked for is not in register {number} behind call {site}"));
                }
                for (holder, argument) in around.behind.into_iter().flatten().zip(arguments) {
                    if self.held(holder)? != Some(argument) {
                        return Err(format!("{holder:?} does not hold {argument:?} behind call {site}"));
                    }
                }
            }
            other => return Err(format!("the end of call {site} is met while there is {other:?}")),
        }
        self.state.pending = Pending::Nothing;
        Ok(())
    }

    /// The function is left, by a return or by a jump to another function.
    fn leave(&mut self, returns: bool) -> Result<(), String> {
        if self.state.pending != Pending::Nothing {
            return Err(format!("the function is left while there is {:?}", self.state.pending));
        }
        let Some(path) = self.function.path else { return Ok(()) };
        if self.state.n_entered != 1 {
            return Err(format!("the entry was met {} times", self.state.n_entered));
        }
        match (&path.returns, returns, self.state.returned) {
            (None, _, _) => Ok(()),
            (Some(_), false, _) => Err("it is left by a jump, whose return is not seen".to_owned()),
            (Some(_), true, None) => Err("it returns without a point".to_owned()),
            (Some(_), true, Some(result)) if result != self.machine.register(RESULT) => {
                Err("the result is not yet there at the point of the return".to_owned())
            }
            _ => Ok(()),
        }
    }
}

//! Real kernels with something changed: what other tools, other options and other builds make of them.

use prefault_user::{
    data::Code,
    kernel::{
        frozen::{Function, KernelFacts},
        types::Parameter,
    },
    plan::{Mechanism, MechanismChoice, Plan, PlanError, PlannedSite, Refusal},
    sites::{NoPath, Operation, Placing, Site, Sites, SitesError},
};

use super::{
    KERNELS,
    facts::{
        BREAKPOINT, FTRACE_LOCATION, NO_FTRACE_LOCATION, add_function, addresses, caller_of, facts, plan_of, read,
        site_at, sites_of, start_of, symbol, symbol_of_module, thaw, write, write_entry,
    },
};

/// Bytes from the entry of a function back to where calls go with call depth tracking.
const REDIRECTED: u64 = 9;
const CALL_BYTES: u64 = 5;
/// `jmp rel32`
const JUMP: u8 = 0xe9;
/// The kernel of the tests that need only one: 6.12.
const RELEASE: &str = KERNELS[2].release;
const PREFAULT: &str = KERNELS[2].prefault;
const COPY: &str = KERNELS[2].copy;
const FUNCTION: &str = "generic_perform_write";

/// Sites in sets of which no two are in one function, so that what is done to one hides nothing of another.
fn apart(sites: &Sites) -> Vec<Vec<&Site>> {
    let mut sets: Vec<Vec<&Site>> = Vec::new();
    for site in &sites.sites {
        let shares = |other: &Site| other.call.caller_address == site.call.caller_address;
        match sets.iter_mut().find(|set| !set.iter().any(|other| shares(other))) {
            Some(set) => set.push(site),
            None => sets.push(vec![site]),
        }
    }
    sets
}

fn is_in(planned: &PlannedSite, function: &str) -> bool {
    planned.site.call.caller == function
}

#[test]
fn facts_that_are_saved_say_the_same() {
    for kernel in KERNELS {
        let facts = facts(kernel.release);
        let functions: Vec<Function> =
            facts.text.iter().map(|piece| Function { address: start_of(piece), with_text: true }).collect();
        let saved = KernelFacts::save(&thaw(&facts), &functions);
        let callers = |facts| sites_of(facts).sites.iter().map(caller_of).collect::<Vec<_>>();
        assert_eq!(callers(&saved), callers(&facts), "{}", kernel.release);
        assert_eq!(plan_of(&saved).config, plan_of(&facts).config, "{}", kernel.release);
    }
}

#[test]
fn a_site_under_a_breakpoint_is_found_and_said_to_be_probed() {
    for kernel in KERNELS {
        let facts = facts(kernel.release);
        let sites = sites_of(&facts);
        for set in apart(&sites) {
            for place in [|site: &Site| site.call.address, |site: &Site| site.call.after] {
                let mut probed = facts.clone();
                set.iter().for_each(|site| write(&mut probed, place(site), &[BREAKPOINT]));
                let found = sites_of(&probed);
                assert_eq!(addresses(&found), addresses(&sites), "{}", kernel.release);
                for site in &set {
                    let call = &site_at(&found, site.call.address).expect("all were found").call;
                    assert!(call.probed, "{} {}+{:#x}", kernel.release, caller_of(site), call.offset());
                }
            }
        }
    }
}

#[test]
fn sites_are_found_beside_another_instance_of_this_tool() {
    /// Where the kernel puts what jumps of probes lead to: far from every function.
    const ELSEWHERE: u64 = 0xffff_ffff_c0ff_0000;
    for kernel in KERNELS {
        let mut facts = facts(kernel.release);
        let sites = sites_of(&facts);
        let calls = addresses(&sites);
        for site in &sites.sites {
            for &point in [site.around.begin].iter().chain(&site.around.ends) {
                let has_room = calls.iter().all(|&call| point + CALL_BYTES <= call || call + CALL_BYTES <= point);
                if has_room {
                    let relative = ELSEWHERE.wrapping_sub(point + CALL_BYTES) as u32;
                    write(&mut facts, point, &[&[JUMP][..], &relative.to_le_bytes()].concat());
                } else {
                    write(&mut facts, point, &[BREAKPOINT]);
                }
            }
        }
        assert_eq!(addresses(&sites_of(&facts)), calls, "{}", kernel.release);
    }
}

#[test]
fn calls_through_call_depth_tracking_are_found() {
    for kernel in KERNELS {
        let mut facts = facts(kernel.release);
        let sites = sites_of(&facts);
        for site in &sites.sites {
            let relative = (site.target.address - REDIRECTED).wrapping_sub(site.call.after) as u32;
            write(&mut facts, site.call.address + 1, &relative.to_le_bytes());
        }
        let found = sites_of(&facts);
        assert_eq!(addresses(&found), addresses(&sites), "{}", kernel.release);
        assert!(found.sites.iter().all(|site| site.call.redirected && !site.call.probed), "{}", kernel.release);
    }
}

#[test]
fn a_call_of_something_else_is_no_site() {
    for kernel in KERNELS {
        let mut facts = facts(kernel.release);
        let sites = sites_of(&facts);
        let changed = &apart(&sites)[0];
        for site in changed {
            let operand = read(&mut facts, site.call.address + 2, 1)[0];
            write(&mut facts, site.call.address + 2, &[operand ^ 0x80]);
        }
        let is_changed = |address: &u64| changed.iter().any(|site| site.call.address == *address);
        let unchanged: Vec<u64> = addresses(&sites).into_iter().filter(|address| !is_changed(address)).collect();
        assert_eq!(addresses(&sites_of(&facts)), unchanged, "{}", kernel.release);
    }
}

#[test]
fn bytes_of_a_call_inside_another_instruction_are_no_site() {
    let mut facts = facts(RELEASE);
    let sites = sites_of(&facts);
    let start = symbol(&facts, "_stext") + 0x40;
    let constant = start + FTRACE_LOCATION.len() as u64;
    let call = constant + 3;
    let relative = (sites.targets[0].address.wrapping_sub(call + CALL_BYTES) as u32).to_le_bytes();
    // movabs $imm64,%rax; ret. The second byte of the constant begins a call.
    let text = [&FTRACE_LOCATION[..], &[0x48, 0xb8, 0x90, 0xe8], &relative, &[0x90, 0x90, 0xc3]].concat();
    add_function(&mut facts, None, "constant", start, &text);
    assert_eq!(addresses(&sites_of(&facts)), addresses(&sites));
    // The same bytes where an instruction starts.
    write(&mut facts, constant, &[0x90, 0x90, 0x90]);
    let plan = plan_of(&facts);
    let planned = plan.sites.iter().find(|planned| planned.site.call.address == call).expect("it is a call now");
    assert_eq!(planned.not_understood(), Some(&NoPath::NotDescribed("constant".to_owned())));
}

#[test]
fn breakpoints_that_fill_unused_text_are_no_site() {
    let mut facts = facts(RELEASE);
    let sites = sites_of(&facts);
    // Where five of them in a row, read as a call under a breakpoint, would call the prefault.
    let target = sites.targets[0].address;
    let place = (target - CALL_BYTES).wrapping_sub_signed(i64::from(i32::from_le_bytes([BREAKPOINT; 4])));
    add_function(&mut facts, Some("module"), "padded", place - 64, &[&[0xc3][..], &[BREAKPOINT; 127]].concat());
    assert_eq!(addresses(&sites_of(&facts)), addresses(&sites));
}

#[test]
fn a_path_without_an_ftrace_location_is_refused_with_its_sites() {
    let mut facts = facts(RELEASE);
    let function = symbol(&facts, FUNCTION);
    write_entry(&mut facts, function, NO_FTRACE_LOCATION);
    let plan = plan_of(&facts);
    for planned in &plan.paths {
        let refused = Err(Refusal::NotTraceable(FUNCTION.to_owned()));
        assert_eq!(planned.mechanism == refused, planned.path.function == FUNCTION, "{planned:?}");
    }
    for planned in &plan.sites {
        let refused = Err(Refusal::PathNotProbed(FUNCTION.to_owned()));
        assert_eq!(planned.mechanism == refused, is_in(planned, FUNCTION), "{planned:?}");
    }
}

#[test]
fn a_path_that_a_tracer_has_patched_is_still_tried() {
    let mut facts = facts(RELEASE);
    let function = symbol(&facts, FUNCTION);
    write_entry(&mut facts, function, [0xe8, 0, 0, 0, 0]);
    assert!(plan_of(&facts).paths.iter().all(|planned| planned.mechanism.is_ok()));
}

#[test]
fn a_target_with_an_ftrace_location_is_probed_itself() {
    let mut facts = facts(RELEASE);
    let prefault = symbol(&facts, PREFAULT);
    write_entry(&mut facts, prefault, FTRACE_LOCATION);
    for planned in &plan_of(&facts).sites {
        let is_prefault = planned.site.target.signature.operation == Operation::Prefault;
        let mechanism = if is_prefault { Mechanism::FunctionProbe } else { Mechanism::CallSite };
        assert_eq!(planned.mechanism, Ok(mechanism), "{planned:?}");
    }
}

#[test]
fn a_caller_that_takes_no_kiocb_belongs_to_its_callers_that_do() {
    let mut facts = facts(RELEASE);
    facts.types.parameters.insert(FUNCTION.to_owned(), Parameter::Other);
    let plan = plan_of(&facts);
    assert!(plan.paths.iter().all(|planned| planned.path.function != FUNCTION));
    // Of its callers only this one was saved, because it has a call of its own.
    let caller = plan.paths.iter().position(|planned| planned.path.function == "f2fs_file_write_iter");
    let sites: Vec<_> = plan.sites.iter().filter(|planned| is_in(planned, FUNCTION)).collect();
    assert_eq!(sites.len(), 2);
    assert!(sites.iter().all(|planned| planned.site.paths == Ok(caller.into_iter().collect())), "{sites:?}");
}

#[test]
fn a_caller_that_is_not_understood_is_counted_as_lost_and_named() {
    let function = "bch2_write_iter";
    let mut facts = facts(RELEASE);
    facts.types.parameters.insert(format!("bcachefs:{function}"), Parameter::Other);
    let plan = plan_of(&facts);
    let why = NoPath::NotUnderstood(function.to_owned());
    for planned in &plan.sites {
        assert_eq!(planned.mechanism, Ok(Mechanism::CallSite), "{planned:?}");
        assert_eq!(planned.not_understood() == Some(&why), is_in(planned, function), "{planned:?}");
        assert_eq!(planned.is_measured(), !is_in(planned, function), "{planned:?}");
    }
    assert_eq!(plan.not_understood(), [function]);
    let codes = |plan: &Plan| plan.remarks().iter().map(|remark| remark.code).collect::<Vec<_>>();
    assert_eq!(codes(&plan), [Code::NotUnderstood]);
    facts.types.parameters.insert(format!("bcachefs:{function}"), Parameter::Unknown);
    assert_eq!(codes(&plan_of(&facts)), [Code::NotDescribed]);
    let reports = plan.site_reports(|_| None);
    let report = reports.iter().find(|report| report.caller == function).expect("it is reported");
    assert!(!report.attached && report.mechanism.is_none(), "{report:?}");
    assert!(report.unattributed && report.why_not.is_some(), "{report:?}");
}

#[test]
fn a_call_of_a_helper_by_a_caller_that_is_not_understood_is_counted_as_lost() {
    let (helper, stranger) = ("btrfs_copy_from_user", "btrfs_direct_write");
    let mut facts = facts(RELEASE);
    facts.types.parameters.insert(format!("btrfs:{stranger}"), Parameter::Other);
    let sites = sites_of(&facts);
    let of_stranger =
        sites.sites.iter().find(|site| site.call.caller == stranger).expect("it calls the prefault").call.clone();
    // Its call of the prefault becomes one of the helper.
    let target = symbol_of_module(&facts, "btrfs", helper);
    let relative = target.wrapping_sub(of_stranger.after) as u32;
    write(&mut facts, of_stranger.address + 1, &relative.to_le_bytes());
    let plan = plan_of(&facts);
    let strange = plan.sites.iter().find(|planned| planned.site.call.address == of_stranger.address);
    let strange = strange.expect("its call of the helper is a site");
    assert_eq!(strange.not_understood(), Some(&NoPath::NotUnderstood(stranger.to_owned())));
    assert_eq!(strange.site.target.signature.operation, Operation::Copy, "as the helper's own call");
    assert!(plan.sites.iter().filter(|planned| is_in(planned, helper)).all(PlannedSite::is_measured));
}

#[test]
fn names_that_thin_lto_has_made_longer_are_found_under_those_of_the_source() {
    for kernel in KERNELS {
        let mut facts = facts(kernel.release);
        let plan = plan_of(&facts);
        for line in &mut facts.symbols {
            let name = line.split(' ').nth(2).unwrap_or_default().split('\t').next().unwrap_or_default().to_owned();
            if name.ends_with("write_iter") {
                *line = line.replace(&name, &format!("{name}.llvm.16190612436457387451"));
            }
        }
        let renamed = plan_of(&facts);
        let paths = |plan: &Plan| plan.path_names();
        assert_eq!(paths(&renamed), paths(&plan), "{}", kernel.release);
        assert_eq!(renamed.not_understood(), [""; 0], "{}", kernel.release);
        let callers = |plan: &Plan| plan.site_reports(|_| None).into_iter().map(|site| site.caller).collect::<Vec<_>>();
        assert_eq!(callers(&renamed), callers(&plan), "{}", kernel.release);
    }
}

#[test]
fn what_a_kernel_lacks_is_named() {
    let whole = facts(RELEASE);
    let mut no_copy = whole.clone();
    no_copy.symbols.retain(|line| !line.ends_with(&format!(" {}", COPY)));
    let error = Sites::find(&thaw(&no_copy), Placing::default()).expect_err("no copy");
    assert!(matches!(error, SitesError::NoTarget { operation: Operation::Copy, .. }), "{error}");
    assert!(error.to_string().contains("copy_folio_from_iter_atomic, copy_page_from_iter_atomic"), "{error}");

    let mut no_text = whole.clone();
    no_text.text.clear();
    let error = Sites::find(&thaw(&no_text), Placing::default()).expect_err("no text");
    assert!(matches!(error, SitesError::NoSite { .. }), "{error}");

    let plan_error = |facts| {
        let kernel = thaw(&facts);
        let sites = Sites::find(&kernel, Placing::default()).expect("there are sites");
        Plan::new(&kernel, sites, MechanismChoice::Auto).expect_err("a type is missing")
    };
    let mut no_member = whole.clone();
    no_member.types.members.remove("super_block.s_type");
    assert_eq!(plan_error(no_member), PlanError::NoMember("super_block.s_type".to_owned()));
    let mut no_enumerator = whole;
    no_enumerator.types.enumerators.clear();
    assert_eq!(plan_error(no_enumerator), PlanError::NoIterTypes);
}

#[test]
fn functions_of_one_name_in_two_modules_are_two_paths() {
    let (here, there) = ("f2fs_file_write_iter", "gfs2_file_write_iter");
    let mut facts = facts(RELEASE);
    for line in &mut facts.symbols {
        *line = line.replace(&format!(" {there}\t"), &format!(" {here}\t"));
    }
    let parameter = facts.types.parameters.remove(&format!("gfs2:{there}")).expect("its type was saved");
    facts.types.parameters.insert(format!("gfs2:{here}"), parameter);
    let plan = plan_of(&facts);
    let paths: Vec<_> = plan.paths.iter().filter(|planned| planned.path.function == here).collect();
    let modules: Vec<_> = paths.iter().filter_map(|planned| planned.path.module.as_deref()).collect();
    assert!(modules.len() == 2 && modules.contains(&"f2fs") && modules.contains(&"gfs2"), "{modules:?}");
    assert_ne!(paths[0].path.address, paths[1].path.address);
    assert!(paths.iter().all(|planned| planned.mechanism.is_ok()), "{paths:?}");
}

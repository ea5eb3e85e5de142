//! Tests of the BTF reader, with BTF that is written word by word.

use super::*;

/// BTF with these types, each of whole words, and strings; `header` are the words behind the known part of the header.
fn btf(types: &[&[u32]], strings: &[u8], header: &[u32]) -> Vec<u8> {
    let types = types.concat();
    let mut words = vec![0x0001_eb9f, (HEADER_BYTES + header.len() * 4) as u32, 0, types.len() as u32 * 4];
    words.extend([types.len() as u32 * 4, strings.len() as u32]);
    words.extend(header);
    words.extend(types);
    words.iter().flat_map(|word| word.to_le_bytes()).chain(strings.iter().copied()).collect()
}

fn parsed(types: &[&[u32]], strings: &[u8]) -> Btf {
    Btf::parse(btf(types, strings, &[]), None).expect("well formed")
}

fn refused(data: &[u8]) -> String {
    Btf::parse(data.to_vec(), None).expect_err("malformed").to_string()
}

fn info(kind: u32, vlen: u32) -> u32 {
    kind << 24 | vlen
}

const STRINGS: &[u8] = b"\0one\0two\0write\0";
const ONE: u32 = 1;
const TWO: u32 = 5;
const WRITE: u32 = 9;

/// `int write(const one *)`, where `referred` is what the pointer points to, as type 1.
fn function_of(referred: &[&[u32]]) -> Btf {
    let id = referred.len() as u32 + 1;
    let rest: [&[u32]; 3] =
        [&[0, info(KIND_PTR, 0), 1], &[0, info(KIND_FUNC_PROTO, 1), 0, 0, id], &[WRITE, info(KIND_FUNC, 0), id + 1]];
    parsed(&[referred, &rest].concat(), STRINGS)
}

#[test]
fn a_parameter_is_found_behind_typedefs_and_qualifiers() {
    let typedefs: Vec<[u32; 3]> = (2..=MAX_REFERENCES as u32).map(|next| [TWO, info(KIND_TYPEDEF, 0), next]).collect();
    let mut types: Vec<&[u32]> = typedefs.iter().map(<[u32; 3]>::as_slice).collect();
    let structure = [ONE, info(KIND_STRUCT, 0), 8];
    types.push(&structure);
    assert_eq!(function_of(&types).first_parameter("write").as_deref(), Some("one"));
}

#[test]
fn types_that_refer_to_each_other_or_to_nothing_are_no_structure() {
    for kind in [KIND_TYPEDEF, KIND_VOLATILE, KIND_CONST, KIND_RESTRICT, KIND_TYPE_TAG] {
        assert_eq!(function_of(&[&[TWO, info(kind, 0), 1]]).first_parameter("write"), None, "kind {kind}");
        let circle: [&[u32]; 2] = [&[TWO, info(kind, 0), 2], &[TWO, info(kind, 0), 1]];
        assert_eq!(function_of(&circle).first_parameter("write"), None, "kind {kind}");
        for nowhere in [0, 1000, u32::MAX] {
            assert_eq!(function_of(&[&[TWO, info(kind, 0), nowhere]]).first_parameter("write"), None);
        }
    }
}

#[test]
fn a_member_is_found_inside_anonymous_members_and_structures_inside_themselves_end() {
    let inner: &[u32] = &[0, info(KIND_UNION, 1), 8, TWO, 9, 32];
    let outer: &[u32] = &[ONE, info(KIND_STRUCT, 1), 16, 0, 1, 64];
    assert_eq!(parsed(&[inner, outer], STRINGS).member_offset("one", "two"), Some(12));
    // Every one of its many members is itself: looking everywhere would never end.
    let n_members = 5_000;
    let itself: Vec<u32> =
        [ONE, info(KIND_STRUCT, n_members), 16].into_iter().chain((0..n_members).flat_map(|_| [0, 1, 8])).collect();
    assert_eq!(parsed(&[&itself], STRINGS).member_offset("one", "two"), None);
}

#[test]
fn offsets_that_do_not_fit_are_no_offsets() {
    let inner: &[u32] = &[0, info(KIND_UNION, 1), 8, TWO, 9, u32::MAX - 7];
    let outer: &[u32] = &[ONE, info(KIND_STRUCT, 1), 16, 0, 1, 64];
    assert_eq!(parsed(&[inner, outer], STRINGS).member_offset("one", "two"), None);
}

#[test]
fn strings_and_types_are_found_through_any_number_of_bases() {
    let mut base = Arc::new(parsed(&[&[ONE, info(KIND_STRUCT, 0), 8]], STRINGS));
    for _ in 0..1_000 {
        base = Arc::new(Btf::parse(btf(&[], b"", &[]), Some(base)).expect("well formed"));
    }
    let types: [&[u32]; 3] = [
        &[0, info(KIND_PTR, 0), 1],
        &[0, info(KIND_FUNC_PROTO, 1), 0, 0, 2],
        &[STRINGS.len() as u32, info(KIND_FUNC, 0), 3],
    ];
    let module = Btf::parse(btf(&types, b"read\0", &[]), Some(base)).expect("well formed");
    assert_eq!(module.first_parameter("read").as_deref(), Some("one"));
}

#[test]
fn headers_that_lie_about_the_data_are_refused() {
    let good = btf(&[&[ONE, info(KIND_STRUCT, 0), 8]], STRINGS, &[]);
    assert!(Btf::parse(good.clone(), None).is_ok());
    for length in 0..good.len() {
        assert!(Btf::parse(good[..length].to_vec(), None).is_err(), "{length} bytes");
    }
    let with = |at: usize, word: u32| {
        let mut bad = good.clone();
        bad[at..at + 4].copy_from_slice(&word.to_le_bytes());
        bad
    };
    for at in [4, 8, 12, 16, 20] {
        for word in [u32::MAX, u32::MAX - 23, 1 << 31, good.len() as u32] {
            assert!(refused(&with(at, word)).contains("cut off"), "{word:#x} at {at}");
        }
    }
    assert!(refused(&with(4, 8)).contains("header"), "it is shorter than what every kernel writes");
    assert!(refused(&with(0, 0x0002_eb9f)).contains("version"));
    assert!(refused(&with(0, 0x0001_9feb)).contains("magic"));
    // A type of more members than there are, and one that reaches into the strings.
    assert!(refused(&with(28, info(KIND_STRUCT, 0xffff))).contains("a type is cut off"));
    assert!(refused(&with(28, info(KIND_INT, 0))).contains("a type is cut off"));
}

#[test]
fn longer_headers_are_read_and_kinds_that_they_describe_are_passed_over() {
    let structure: &[u32] = &[ONE, info(KIND_STRUCT, 1), 8, TWO, 0, 0];
    assert!(Btf::parse(btf(&[structure], STRINGS, &[0, u32::MAX]), None).is_err(), "the layout is cut off");
    let longer = Btf::parse(btf(&[structure], STRINGS, &[0, 0, 7, 7]), None).expect("well formed");
    assert_eq!(longer.member_offset("one", "two"), Some(0));

    let newer: &[u32] = &[0, info(21, 3), 0, 1, 2, 3, 4];
    let types: [&[u32]; 2] = [newer, structure];
    assert_eq!(
        refused(&btf(&types, STRINGS, &[])),
        "type 1 is of kind 21, which this version of prefault does not know: use a newer one"
    );
    // The layout is put behind the strings: 21 kinds that are known, then one of 4 bytes and 4 for each element.
    let start = types.concat().len() * 4 + STRINGS.len();
    let mut described = btf(&types, STRINGS, &[start as u32, 22 * 4]);
    described.extend([0; 21 * 4]);
    described.extend([4, 4, 0, 0]);
    let described = Btf::parse(described, None).expect("well formed");
    assert_eq!(described.member_offset("one", "two"), Some(0));
}

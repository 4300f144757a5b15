use super::*;
use crate::kernel::btf::testing::Builder;

#[test]
fn an_expression_is_taken_apart() {
    use Step::{Arrow, Cast, Container, Dot, Element};
    for (text, parameter, steps) in [
        ("flags", "flags", &[][..]),
        ("$retval->root", "$retval", &[Arrow("root")]),
        ("d->d_name.name", "d", &[Arrow("d_name"), Dot("name")]),
        (
            "(sock)sk->a[12]",
            "sk",
            &[Cast("sock"), Arrow("a"), Element(12)],
        ),
        (
            "i^outer.in->x",
            "i",
            &[Container("outer", "in"), Arrow("x")],
        ),
    ] {
        let expected = Expression {
            text,
            parameter,
            steps: steps.to_vec(),
        };
        assert_eq!(Expression::parse(text), Ok(expected));
    }
}

#[test]
fn what_is_malformed_is_told_from_there_on() {
    for (expression, rest) in [
        ("", ""),
        ("dentry->", ""),
        ("dentry->d name", " name"),
        ("dentry-d_name", "-d_name"),
        ("dentry->d_name..name", ".name"),
        ("dentry->d_name.1", "1"),
        ("*dentry", "*dentry"),
        ("(sock", ""),
        ("(sock)sk", ""),
        ("(sock)sk.x", ".x"),
        ("(sock)(sock)sk->x", "(sock)sk->x"),
        ("a[", ""),
        ("a[]", "]"),
        ("a[+1]", "+1]"),
        ("a[-1]", "-1]"),
        ("a[4294967296]", "4294967296]"),
        ("i^outer->x", "->x"),
        ("i^outer.in", ""),
        ("i^outer.in.x", ".x"),
        ("i^a.b^c.d->x", "^c.d->x"),
        ("naïve", "ïve"),
        ("$ret", "$ret"),
        ("(sock)$retval->x", "$retval->x"),
    ] {
        let error = Malformed {
            expression: expression.into(),
            rest: rest.into(),
        };
        assert_eq!(Expression::parse(expression), Err(error));
    }
}

/// A kernel with a function of seven parameters, the first of them
/// `do_it(int mode, struct inner *inner, void *address)`.
fn kernel() -> Btf {
    let mut btf = Builder::new();
    let int = btf.int("int", 4);
    let long = btf.int("long", 8);
    let words = btf.array(int, 4);
    let structs = btf.array(words, 2);
    let wide = btf.int("wide", 16);
    let inner = btf.structure(
        "inner",
        48,
        &[
            ("id", 4, int),
            ("words", 8, words),
            ("tables", 24, structs),
            ("wide", 32, wide),
        ],
    );
    let members = [
        ("before", 0, 0, long),
        ("inner", 64, 0, inner),
        ("after", 448, 0, long),
        ("flag", 517, 3, int),
    ];
    btf.bit_fields("outer", 72, &members);
    let pointer = btf.pointer(inner);
    let void = btf.pointer(0);
    let small = btf.structure("small", 8, &[("first", 0, int), ("second", 4, int)]);
    let parameters = [
        ("mode", int),
        ("inner", pointer),
        ("address", void),
        ("small", small),
        ("large", inner),
        ("f", int),
        ("seventh", int),
    ];
    btf.function("do_it", int, &parameters);
    btf.function("make_it", pointer, &[]);
    Btf::parse(btf.build()).unwrap()
}

fn resolve(text: &str) -> Result<(String, Form), String> {
    resolve_in("do_it", text)
}

fn resolve_in(name: &str, text: &str) -> Result<(String, Form), String> {
    let btf = kernel();
    let scope = Scope {
        btf: &btf,
        arch: Arch::of("x86_64").unwrap(),
        name,
        function: btf.function(name).unwrap(),
    };
    match scope.resolve(&Expression::parse(text).unwrap()) {
        Ok(operand) => Ok((operand.to_string(), operand.form)),
        Err(unresolved) => Err(unresolved.to_string()),
    }
}

#[test]
fn an_operand_is_behind_pointers_from_a_register() {
    let flag = Form::Bits { width: 3, shift: 5 };
    for (text, place, form) in [
        ("mode", "%di", Form::Number(4)),
        ("small.first", "%cx", Form::Number(4)),
        ("address", "%dx", Form::Number(8)),
        ("inner->id", "+4(%si)", Form::Number(4)),
        ("inner->words", "+8(%si)", Form::Other),
        ("inner->words[3]", "+20(%si)", Form::Number(4)),
        ("inner->wide", "+32(%si)", Form::Other),
        ("(outer)address->inner.id", "+12(%dx)", Form::Number(4)),
        ("(outer)address->flag", "+64(%dx)", flag),
        ("inner^outer.inner->before", "-8(%si)", Form::Number(8)),
        ("inner^outer.inner->after", "+48(%si)", Form::Number(8)),
        (
            "inner^outer.inner->inner.words[1]",
            "+12(%si)",
            Form::Number(4),
        ),
    ] {
        assert_eq!(resolve(text), Ok((place.to_owned(), form)), "{text}");
    }
}

#[test]
fn what_a_function_returns_is_no_register_of_its_parameters() {
    for (text, place, form) in [
        ("$retval", "$retval", Form::Number(8)),
        ("$retval->id", "+4($retval)", Form::Number(4)),
    ] {
        assert_eq!(resolve_in("make_it", text), Ok((place.to_owned(), form)));
    }
}

#[test]
fn says_what_the_kernel_lacks() {
    for (text, lacking) in [
        ("dentry->x", "parameter dentry"),
        ("seventh", "register for that parameter"),
        ("(sock)address->x", "struct sock"),
        ("inner^sock.inner->x", "struct sock"),
        ("inner^outer.sock->x", "outer.sock"),
        ("inner->x", "x"),
        ("inner->id.x", "x"),
        ("(outer)address->flag.x", "x"),
        ("mode->x", "pointer before ->x"),
        ("inner->words->x", "pointer before ->x"),
        ("inner.id", "memory behind a register"),
        ("small.second", "memory behind a register"),
        ("small.third", "third"),
        ("large.id", "memory behind a register"),
        ("mode[0]", "memory behind a register"),
        ("inner->id[0]", "array"),
        ("inner->tables[1]", "element size"),
    ] {
        let told = format!("'{text}' of do_it(): this kernel has no {lacking}");
        assert_eq!(resolve(text), Err(told));
    }
}

//! Following a guest's processor instruction by instruction, through the remote debugging protocol of QEMU's stub
//! (gdb/doc/gdb/Remote-Protocol.html): what a call executed, and not what a clock says about it.

use std::{
    io::{BufRead as _, BufReader, Read as _, Write as _},
    net::{Ipv4Addr, TcpStream},
    time::Duration,
};

use anyhow::{Context as _, Result, bail, ensure};
use iced_x86::{Decoder, DecoderOptions, FastFormatter};

/// The stub's numbers of registers (gdb's i386:x86-64 description).
const RIP: usize = 16;
const RSP: usize = 7;
/// Hexadecimal digits of a register.
const DIGITS: usize = 16;

/// Bytes of the longest instruction (Intel SDM, volume 2, 2.3.11).
const MAX_INSTRUCTION_BYTES: usize = 15;

/// More instructions than any call that is followed has.
const STEPS: usize = 1 << 20;

/// After that a processor that does not answer never will.
const PATIENCE: Duration = Duration::from_secs(60);

/// A guest under the debugger; it runs on when this is dropped.
pub struct Stepper {
    stub: BufReader<TcpStream>,
}

impl Stepper {
    /// Stops the guest whose stub listens at `port` of the loopback address.
    ///
    /// # Errors
    /// When there is none or it does not answer.
    pub fn stop(port: u16) -> Result<Self> {
        let stub = TcpStream::connect((Ipv4Addr::LOCALHOST, port)).context("failed to reach QEMU's debugging stub")?;
        stub.set_nodelay(true)?;
        stub.set_read_timeout(Some(PATIENCE))?;
        let mut stepper = Self { stub: BufReader::new(stub) };
        // The stub also says that it has stopped, before it answers or not at all; the current thread is what comes last.
        let mut answer = stepper.ask("qC")?;
        while !answer.starts_with("QC") {
            answer = stepper.receive()?;
        }
        Ok(stepper)
    }

    /// Lets the guest run until the function at `address` has been called `before` times and once more, and returns the addresses of the instructions
    /// that are executed from there until it has returned. Interrupts wait meanwhile.
    ///
    /// # Errors
    /// When the call does not come or does not end.
    pub fn follow_call(&mut self, address: u64, before: usize) -> Result<Vec<u64>> {
        for _ in 0..before {
            self.run_to(address)?;
            self.ask("s")?;
        }
        self.run_to(address)?;
        let [begin, stack] = self.registers()?;
        let back = self.word(stack)?;
        let mut executed = vec![begin];
        loop {
            self.ask("s")?;
            let [at, now] = self.registers()?;
            if at == back && now > stack {
                return Ok(executed);
            }
            executed.push(at);
            ensure!(executed.len() < STEPS, "the call does not end");
        }
    }

    fn run_to(&mut self, address: u64) -> Result<()> {
        let breakpoint = format!("1,{address:x},1");
        ensure!(self.ask(&format!("Z{breakpoint}"))? == "OK", "the stub sets no breakpoint");
        self.ask("c")?;
        ensure!(self.ask(&format!("z{breakpoint}"))? == "OK", "the stub removes no breakpoint");
        Ok(())
    }

    /// All at once: for one register, the stub wants its description of the processor to be asked for first.
    fn registers(&mut self) -> Result<[u64; 2]> {
        let answer = self.ask("g")?;
        let register = |number: usize| {
            let digits = answer.get(number * DIGITS..(number + 1) * DIGITS);
            number_of(digits.with_context(|| format!("it has too few registers: {answer:?}"))?)
        };
        Ok([register(RIP)?, register(RSP)?])
    }

    fn word(&mut self, address: u64) -> Result<u64> {
        let answer = self.ask(&format!("m{address:x},8"))?;
        number_of(&answer)
    }

    /// The instruction at `address` of the guest's memory, as text.
    ///
    /// # Errors
    /// When there is no memory.
    pub fn disassemble(&mut self, address: u64) -> Result<String> {
        let answer = self.ask(&format!("m{address:x},{MAX_INSTRUCTION_BYTES:x}"))?;
        let byte = |digits: &[u8]| Ok(u8::from_str_radix(std::str::from_utf8(digits)?, 16)?);
        let code: Vec<u8> = answer.as_bytes().chunks(2).map(byte).collect::<Result<_>>()?;
        let instruction = Decoder::with_ip(64, &code, address, DecoderOptions::NONE).decode();
        let mut text = String::new();
        FastFormatter::new().format(&instruction, &mut text);
        Ok(text)
    }

    /// Sends a packet and returns the payload of the one that answers it.
    fn ask(&mut self, request: &str) -> Result<String> {
        let packet = format!("${request}#{:02x}", checksum(request.as_bytes()));
        self.stub.get_mut().write_all(packet.as_bytes())?;
        self.receive().with_context(|| format!("failed to ask the debugging stub {request:?}"))
    }

    /// The payload of the next packet.
    fn receive(&mut self) -> Result<String> {
        let mut skipped = Vec::new();
        self.stub.read_until(b'$', &mut skipped).context("it does not answer")?;
        let mut payload = Vec::new();
        self.stub.read_until(b'#', &mut payload).context("it does not answer")?;
        let mut sum = [0; 2];
        self.stub.read_exact(&mut sum).context("it does not answer")?;
        self.stub.get_mut().write_all(b"+")?;
        payload.pop();
        let answer = String::from_utf8(payload)?;
        if answer.starts_with('E') {
            bail!("it refuses: {answer}");
        }
        Ok(answer)
    }
}

impl Drop for Stepper {
    fn drop(&mut self) {
        // A guest that ended meanwhile needs no detaching.
        let _unused = self.ask("D");
    }
}

fn checksum(payload: &[u8]) -> u8 {
    payload.iter().fold(0, |sum, byte| sum.wrapping_add(*byte))
}

/// A register or a word of memory: hexadecimal digits in the order of the bytes.
fn number_of(answer: &str) -> Result<u64> {
    let number = u64::from_str_radix(answer, 16).with_context(|| format!("the stub answers {answer:?}"))?;
    Ok(number.swap_bytes() >> (64 - 4 * answer.len().min(16)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn packets_have_sums_and_numbers_their_bytes_in_order() {
        assert_eq!(checksum(b"OK"), 0x9a);
        assert_eq!(number_of("f0ffffffffffffff").expect("it is a number"), 0xffff_ffff_ffff_fff0);
        assert_eq!(number_of("3412").expect("it is a number"), 0x1234);
        assert!(number_of("OK").is_err());
    }
}

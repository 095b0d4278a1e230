//! What a Kafka sink needs of a producer, real or simulated.

use std::sync::Arc;

use super::fates::Failure;
use crate::{batch::Message, clock::Nanos, metrics::State, ring::Signal};

/// Names one message in flight; chosen by the sender, given back with the answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Tag(pub u64);

/// Why a message was not taken. It is not in flight; the caller still has it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum SendError {
    /// No room; it is woken when answers arrive.
    Full,
    /// Larger than the client may send: wrong for good, alone.
    TooLarge,
    /// Refused at once, with the same meaning as a failed delivery.
    Failed(Failure),
}

/// What a producer tells when it is polled.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Event<'e> {
    /// These are durable on the broker, in the order in which it answered.
    Delivered(&'e [Tag]),
    /// This one is not, or it is not known; it is no longer in flight.
    Failed(Tag, Failure),
    /// How the connection stands.
    Client(State),
    /// The producer can send nothing more: [`Producer::renew`] it and send again what is unanswered.
    Broken(String),
}

/// A producer of one topic.
///
/// Messages of one partition become durable in the order sent, unless one fails. Every message
/// taken by [`send`](Self::send) is answered once, unless the producer is renewed before.
pub trait Producer {
    /// Takes a message, copying it.
    ///
    /// # Errors
    /// [`SendError`]; the message is then not in flight.
    fn send(&mut self, message: &Message<'_>, tag: Tag) -> Result<(), SendError>;
    /// Hands over every answer that has arrived; never waits.
    fn poll(&mut self, take: &mut dyn FnMut(Event<'_>));
    /// Raised when [`poll`](Self::poll) may have something new. The same signal for ever.
    fn woken(&self) -> Arc<Signal>;
    /// Starts anew with the settings, files and secrets as they are now. What was in flight is
    /// given up and never answered. The first call starts the first time.
    ///
    /// # Errors
    /// What is wrong with them, and the remedy; the producer then takes nothing.
    fn renew(&mut self) -> Result<(), String>;
    /// True if a file that the last [`renew`](Self::renew) read has changed since.
    fn is_stale(&mut self) -> bool;
    /// When the first certificate that the last [`renew`](Self::renew) read ends, wall time;
    /// `None` where there is none.
    fn certificate_ends(&self) -> Option<Nanos> {
        None
    }
    /// Messages taken and not yet answered.
    fn in_flight(&self) -> usize;
    /// Gives up what is in flight: none of it is answered any more, none of it is sent but what
    /// is on the wire. The producer takes nothing until it is renewed.
    fn purge(&mut self);
}

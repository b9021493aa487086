import Reactor
import Testing

@Suite struct MailboxTests {
    @Test("a full mailbox takes what cannot be had again from its reserve, and what must not be lost always")
    func admissions() throws {
        let mailbox = try Mailbox<Int>(capacity: 2, reserve: 1)
        #expect(mailbox.post(1) && mailbox.post(2) && !mailbox.post(3))
        #expect(mailbox.post(4, .withinReserve) && !mailbox.post(5, .withinReserve))
        #expect(mailbox.post(6, .always))
        var batch: [Int] = []
        mailbox.take(into: &batch)
        #expect(batch == [1, 2, 4, 6])
        #expect(mailbox.post(7))
    }
}

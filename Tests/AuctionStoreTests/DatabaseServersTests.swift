import Testing

@testable import AuctionStore

/// Which server a connection tries first.
@Suite struct DatabaseServersTests {
    private static func order(_ servers: DatabaseServers) -> [String] {
        servers.order.map { "\($0.name)=\($0.value)" }
    }

    @Test("the server that worked last is tried first, and the others follow in their order")
    func order() {
        let servers = DatabaseServers("postgresql://user@a:1,b:2,c:3/db")
        #expect(Self.order(servers) == ["host=a,b,c", "port=1,2,3"])
        servers.noteAccepted("x", host: "b", port: "2")
        #expect(Self.order(servers) == ["host=b,c,a", "port=2,3,1"])
        servers.noteAccepted("x", host: "b", port: "3")
        #expect(Self.order(servers) == ["host=b,c,a", "port=2,3,1"], "no such server")
        #expect(servers.orderWithout(host: "b", port: "2")?.map(\.value) == ["a,c", "1,3"])
    }

    @Test("one port counts for all hosts, a missing one is left to libpq, and addresses keep their names")
    func forms() {
        #expect(
            Self.order(DatabaseServers("host=a,b port=6000 dbname=db")) == ["host=a,b", "port=6000,6000"])
        #expect(Self.order(DatabaseServers("postgresql://a,b:6000/db")) == ["host=a,b", "port=,6000"])
        let addresses = DatabaseServers("host=a,b hostaddr=10.0.0.1,10.0.0.2")
        addresses.noteAccepted("x", host: "10.0.0.2", port: "5432")
        #expect(
            Self.order(addresses) == ["host=b,a", "hostaddr=10.0.0.2,10.0.0.1"])
    }

    @Test("a single server is left to libpq")
    func single() {
        for url in ["postgresql://a:1/db", "dbname=db", "postgresql:///db?host=/run/postgresql"] {
            let servers = DatabaseServers(url)
            #expect(servers.order.isEmpty && !servers.mayReplace)
            #expect(servers.orderWithout(host: "a", port: "1") == nil)
        }
        #expect(!DatabaseServers("postgresql://a,b/db", for: .reading).mayReplace)
    }
}
